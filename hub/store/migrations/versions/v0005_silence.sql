-- Since when an agency is silent: what waits for it, and when it was last heard of (by its receipts: revision 0004).
CREATE INDEX deliveries_waiting ON deliveries (recipient, created_at)
    WHERE typ = 'truc.document.v1' AND state IN ('pending', 'routed');
CREATE INDEX documents_by_sender ON documents (sender, accepted_at);
