-- Blocking: which profiles are worth comparing.

create table if not exists staging.blocking_rules (
    rule_id smallint primary key,
    rule_name text not null unique,
    key_terms text[] not null,
    block_limit integer not null check (block_limit >= 2)
);
comment on table staging.blocking_rules is
'One row per blocking rule of matching/model.toml, in order';

create table if not exists staging.blocking_keys (
    profile_key bigint primary key,
    run_id integer not null,
    keys bigint [] not null
);
comment on table staging.blocking_keys is
'One row per live profile: the hash of its key under each blocking rule, in order of rule_id; null where the rule says nothing';

create table if not exists staging.capped_blocks (
    rule_id smallint not null,
    key bigint not null,
    profile_count integer not null,
    pair_count bigint not null,
    example text not null,
    run_id integer not null,
    primary key (rule_id, key)
);
comment on table staging.capped_blocks is
'One row per blocking key shared by more profiles than the limit: they are paired with a few anchors instead of all with all';

create table if not exists staging.shared_values (
    attribute text not null check (attribute in ('email', 'phone', 'national_id')),
    value text not null,
    profile_count integer not null,
    name_count integer not null,
    top_name_share real not null,
    run_id integer not null,
    primary key (attribute, value)
);
comment on table staging.shared_values is
'One row per value shared by many clearly different names, so it says little about who somebody is';

create table if not exists staging.identity_match_candidates_blocked (
    left_profile_key bigint not null,
    right_profile_key bigint not null,
    rule_id smallint not null,
    primary key (left_profile_key, right_profile_key),
    check (left_profile_key < right_profile_key)
);
comment on table staging.identity_match_candidates_blocked is
'One row per candidate pair of this run and the first rule that found it; rule 0: no rule finds it any more';

create table if not exists staging.blocking_rule_metrics (
    run_id integer not null,
    rule_id smallint not null,
    rule_name text not null,
    pair_count bigint not null,
    only_here_count bigint not null,
    capped_block_count integer not null,
    primary key (run_id, rule_id)
);
comment on table staging.blocking_rule_metrics is
'One row per run and rule: pairs found, pairs found by it alone, blocks capped';
