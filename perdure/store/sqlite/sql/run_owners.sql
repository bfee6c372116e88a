-- The distinct owners, each found by one look into the index.
WITH RECURSIVE owners (owner) AS (
    SELECT min(owner) FROM runs WHERE owner IS NOT NULL
    UNION ALL
    SELECT (SELECT min(runs.owner) FROM runs WHERE runs.owner > owners.owner)
    FROM owners
    WHERE owners.owner IS NOT NULL
)
SELECT owner FROM owners WHERE owner IS NOT NULL
