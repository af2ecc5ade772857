-- From PostgreSQL 16 on, who makes a role without being a superuser may grant it, but does not take it on: the login that
-- owns the tables could not be the hub's own as well. A login that may not grant it has been given what it is to have.
DO $$
BEGIN
    IF current_setting('server_version_num')::integer >= 160000 THEN
        IF pg_has_role('truc_hub', 'MEMBER WITH ADMIN OPTION') AND NOT pg_has_role('truc_hub', 'SET') THEN
            GRANT truc_hub TO CURRENT_USER;
        END IF;
    END IF;
END
$$;
