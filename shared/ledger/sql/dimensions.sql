-- Dimensions of usage: what it can be grouped and limited by.

-- The tags in metadata.
CREATE OR REPLACE FUNCTION ledger_tags(
    p_metadata jsonb
) RETURNS text [] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT
        array(
            SELECT t.tag
            FROM jsonb_array_elements_text(
                CASE jsonb_typeof(p_metadata -> 'prepaid:tags') WHEN 'array' THEN p_metadata -> 'prepaid:tags' END
            ) AS t (tag)
        )
$$;

-- The values of a dimension of a row, a posting or a hold: none, one, or several tags.
--
-- `model` is the model or meter of its price, else the caller's `metadata.model`; `key` the id of its API key.
-- PostgreSQL inlines it, as long as it has no subquery: a batch of debits pays no call for each row.
CREATE OR REPLACE FUNCTION ledger_dimension(
    p_name text,
    p_user_id text,
    p_category text,
    p_metadata jsonb
) RETURNS text [] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE p_name
        WHEN 'user' THEN array_remove(ARRAY[p_user_id], NULL)
        WHEN 'category' THEN array_remove(ARRAY[p_category], NULL)
        WHEN 'key' THEN array_remove(ARRAY[p_metadata ->> 'prepaid:key'], NULL)
        WHEN 'model' THEN array_remove(
            ARRAY[
                coalesce(
                    p_metadata #>> '{prepaid:pricing,model}',
                    p_metadata #>> '{prepaid:pricing,meter}',
                    CASE jsonb_typeof(p_metadata -> 'model') WHEN 'string' THEN p_metadata ->> 'model' END
                )
            ],
            NULL
        )
        WHEN 'tag' THEN CASE WHEN p_metadata ? 'prepaid:tags' THEN ledger_tags(p_metadata) ELSE '{}' END
    END
$$;
