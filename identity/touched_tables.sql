-- One row per profile and per customer to resolve again, with the step from the
-- change in which the graph was followed to it.
create temp table touched_profiles (
    profile_key bigint primary key,
    step integer not null
) on commit drop;
create temp table touched_customers (
    global_customer_id uuid primary key,
    step integer not null
) on commit drop;
