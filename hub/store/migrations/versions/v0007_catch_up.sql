-- Agencies begin catch-ups by themselves, and ask how far they are.
CREATE INDEX replays_of_agency ON replays ((selection ->> 'agency'), replay_id) WHERE purpose = 'catch-up';
CREATE INDEX replays_catching_up ON replays (replay_id) WHERE purpose = 'catch-up' AND state NOT IN ('done', 'cancelled');
