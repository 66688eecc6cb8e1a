-- Text sorts by bytes, as names do everywhere else. `body` is the value as every backend encodes it; the columns beside
-- it are what is looked for. Times are milliseconds since 1970.

CREATE TABLE meta (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    product text NOT NULL CHECK (product = 'tessera'),
    log_id uuid NOT NULL
);

-- One row for each group of units that wrote. The newest is the state of the authority: it is only ever inserted, so that
-- a reader with an old snapshot slows no writer down. Its id tells a node whether its own group was committed.
CREATE TABLE commit_group (
    number bigint PRIMARY KEY,
    id uuid NOT NULL,
    node uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seq bigint NOT NULL,
    floor bigint NOT NULL,
    audit_position bigint NOT NULL,
    audit_link bytea NOT NULL,
    audit_first bigint NOT NULL,
    purged bigint,
    policy text COLLATE "C",
    times bytea NOT NULL
) PARTITION BY RANGE (number);

CREATE TABLE event (
    seq bigint PRIMARY KEY,
    relevant_until bigint NOT NULL,
    counts_until bigint NOT NULL,
    body bytea NOT NULL
);

CREATE TABLE cutoff (
    realm text COLLATE "C" NOT NULL,
    kind smallint NOT NULL,
    target text COLLATE "C" NOT NULL,
    until bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (realm, kind, target)
);
CREATE INDEX cutoff_until ON cutoff (until);

-- `removable_day` is a day so that a refresh changes no index, and the row stays on its page.
CREATE TABLE session (
    id uuid PRIMARY KEY,
    realm text COLLATE "C" NOT NULL,
    subject text COLLATE "C" NOT NULL,
    client text COLLATE "C" NOT NULL,
    credential text COLLATE "C" NOT NULL,
    removable_day integer NOT NULL,
    removable_at bigint NOT NULL,
    body bytea NOT NULL
) WITH (fillfactor = 75);
CREATE INDEX session_by_realm ON session (realm, id);
CREATE INDEX session_by_subject ON session (realm, subject, id);
CREATE INDEX session_by_client ON session (realm, client, id);
CREATE INDEX session_by_credential ON session (realm, credential, id);
CREATE INDEX session_by_removable_day ON session (removable_day);

CREATE TABLE session_label (
    realm text COLLATE "C" NOT NULL,
    label text COLLATE "C" NOT NULL,
    session uuid NOT NULL,
    PRIMARY KEY (realm, label, session)
);
CREATE INDEX session_label_by_session ON session_label (session);

CREATE TABLE client (
    realm text COLLATE "C" NOT NULL,
    client text COLLATE "C" NOT NULL,
    sessions bigint NOT NULL DEFAULT 0 CHECK (sessions >= 0),
    disabled boolean NOT NULL DEFAULT false,
    PRIMARY KEY (realm, client)
) WITH (fillfactor = 50);

CREATE TABLE api_key (
    id text COLLATE "C" PRIMARY KEY,
    realm text COLLATE "C" NOT NULL,
    made_with text COLLATE "C",
    revoked boolean NOT NULL,
    body bytea NOT NULL
);
CREATE INDEX api_key_by_realm ON api_key (realm, id);
CREATE INDEX api_key_by_maker ON api_key (made_with, id) WHERE made_with IS NOT NULL;

CREATE TABLE signing_key (
    id text COLLATE "C" PRIMARY KEY,
    body bytea NOT NULL
);

CREATE TABLE request (
    realm text COLLATE "C" NOT NULL,
    client text COLLATE "C" NOT NULL,
    id uuid NOT NULL,
    expires_at bigint NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (realm, client, id)
);
CREATE INDEX request_expires_at ON request (expires_at);

CREATE TABLE policy (
    revision text COLLATE "C" PRIMARY KEY,
    replaced_at bigint,
    files bytea NOT NULL
);

-- What there is once: `policy_reconciled`, `last_backup`.
CREATE TABLE setting (
    name text COLLATE "C" PRIMARY KEY,
    body bytea NOT NULL
);

-- Of the required subscribers of each node: how long one goes on answering by what it knows, and how far all are.
CREATE TABLE staleness_bound (
    node uuid NOT NULL,
    realm text COLLATE "C" NOT NULL,
    millis bigint NOT NULL,
    through bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (node, realm)
) WITH (fillfactor = 50);

CREATE TABLE audit_sink (
    name text COLLATE "C" PRIMARY KEY,
    position bigint NOT NULL
);

-- A record begins with the version of its encoding, which is 2.
CREATE TABLE audit (
    position bigint PRIMARY KEY,
    at bigint NOT NULL,
    previous bytea NOT NULL,
    body bytea NOT NULL
) PARTITION BY RANGE (position);

CREATE TABLE node (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    seq bigint NOT NULL,
    started timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Its heartbeats are numbered: a server that has not the last one is no longer the primary.
    beat bigint NOT NULL,
    -- What it says of itself each second, as JSON: its required subscribers, whom it evicted, its sinks.
    report bytea,
    reported timestamptz
) WITH (fillfactor = 50);

-- A statement that found other than it must fails its transaction: a pipelined COMMIT would commit all the same.
CREATE FUNCTION expect(written bigint, wanted bigint, what text) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    IF written IS DISTINCT FROM wanted THEN
        RAISE EXCEPTION '% of % rows of % were written', written, wanted, what USING ERRCODE = 'TS001';
    END IF;
    RETURN written;
END
$$;
