-- One row per profile, per customer and per member of a customer to resolve again, with the step from the change in
-- which the graph was followed to it.
create temp table touched_profiles (
    profile_key bigint primary key,
    step integer not null
) on commit drop;
create temp table touched_customers (
    global_customer_id uuid primary key,
    step integer not null
) on commit drop;
create temp table touched_members (
    like identity.memberships,
    step integer not null
) on commit drop;
