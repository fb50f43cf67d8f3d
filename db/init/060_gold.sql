-- Golden customers, the values behind them, their history and their events.

create table if not exists gold.dim_customers (
    global_customer_id uuid primary key,
    run_id integer not null,
    record_count integer not null check (record_count > 0),
    source_count integer not null check (source_count > 0),
    canonical_birth_date date,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    canonical_name text,
    canonical_email text,
    canonical_phone text,
    canonical_address text,
    canonical_city text,
    canonical_postal_code text,
    canonical_national_id text
);
comment on table gold.dim_customers is 'One row per customer: the golden record';
create index if not exists dim_customers_run_id on gold.dim_customers (run_id);
