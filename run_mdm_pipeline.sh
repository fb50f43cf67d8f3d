#!/usr/bin/env bash
# Summary: one trustworthy row per customer, from JSON lines in a lake to golden records in PostgreSQL.
#
# Usage: ./run_mdm_pipeline.sh [FLAGS]                    run the pipeline, phases 1 to 10
#        ./run_mdm_pipeline.sh [FLAGS] COMMAND [FLAGS]
#
# The first run sets up what it needs: .venv with the pinned dependencies, .env with random passwords, the two
# stores, the schema. It needs bash 4.4 and Python 3.11 or newer. A later run takes what is new since then.
#
# Commands:
#   up                          start the stores and bring the schema up to date
#   down                        stop the stores; their data stays
#   status                      say how the stores are
#   psql [ARGS...]              open psql with the right credentials
#   load FILE... --source NAME  put local files into the lake as deliveries of a source
#   reset --yes                 delete all data for good; without --yes, say what that would be
#
# Flags of a run:
#   --from PHASE       begin with this phase
#   --to PHASE         end with this phase
#   --only PHASE       run this phase alone
#   --list             list the phases and end
#   --no-producers     leave out the demo's producers: take what is in the lake
#   --records N        records per source that the producers make (default 3000)
#   --seed N           seed of the producers
#   --retrain          train the matching model anew
#
# Flags of a run and of every command:
#   --sources FILE     the source systems (default ingestion/sources.toml)
#   --runtime NAME     docker, embedded, external or auto (default): where the stores run
#   --quiet            print errors and warnings only
#   --help             print this and end
#
# Exit codes: 0 done, 1 a phase failed, 2 bad configuration or arguments, 3 something needed is missing,
# 130 interrupted, 141 nobody reads what it prints (| head).

set -Eeuo pipefail

PROJECT=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
VENV=$PROJECT/.venv
PYTHON=$VENV/bin/python

# number | what it does | its scripts, in order
PHASES=(
    "1|Produce a day of the demo's three systems|producers/run_producers.py"
    "2|Ingest new objects of the lake into raw|ingestion/minio_to_raw.py"
    "3|Clean what came in|staging/run_staging.py"
    "4|Bring all sources to the canonical attributes|staging/run_identity_inputs.py"
    "4.5|Find the pairs worth comparing|matching/run_blocking.py"
    "5|Compare, weigh and decide the pairs|matching/run_matching_engine.py"
    "6|Resolve identities|identity/run_identity_resolution.py"
    "7|Build the golden customers|gold/run_golden_customers.py"
    "8|Keep their history|gold/run_golden_history.py"
    "9A|Emit change events|gold/run_golden_cdc.py"
    "9B|Apply stewards' overrides|gold/run_steward_overrides.py"
    "10|Detect conflicts, measure quality|gold/run_conflict_detection.py gold/run_quality_metrics.py gold/run_quality_report.py"
)

# what goes on beside the phases after 6, and after 7: the indexes that a first load has left
BESIDE="+||db/build_indexes.py"

# what makes both stores answer, and the schema current
STORES=("||db/runtime.py up" "||db/schema.py")

command=run
command_arguments=()
first_phase=0
last_phase=$((${#PHASES[@]} - 1))
with_producers=true
producer_arguments=()
matching_arguments=()
run_flags=()
source_name=
is_sure=false
quiet=false
child=
home=
browser=
called_from=

# say TEXT: tell the user, unless quiet
say() {
    $quiet || printf '%s\n' "$*"
}

# fail CODE TEXT...: a paragraph on stderr, then exit
fail() {
    local code=$1
    shift
    printf '\nerror: %s\n' "$*" >&2
    exit "$code"
}

# usage: the header of this file
usage() {
    local line
    while IFS= read -r line; do
        [[ $line == '#!'* ]] && continue
        [[ $line == '#'* ]] || break
        line=${line#\#}
        printf '%s\n' "${line# }"
    done <"${BASH_SOURCE[0]}"
}

# list_phases: number, title and scripts of each
list_phases() {
    local phase number title scripts
    for phase in "${PHASES[@]}"; do
        IFS='|' read -r number title scripts <<<"$phase"
        printf '%-4s  %-46s  %s\n' "$number" "$title" "$scripts"
    done
}

# position_of PHASE: its place in PHASES
position_of() {
    local position
    for position in "${!PHASES[@]}"; do
        if [[ ${PHASES[position]%%|*} == "${1^^}" ]]; then
            printf '%s' "$position"
            return
        fi
    done
    fail 2 "There is no phase '$1'. The phases:"$'\n'"$(list_phases)"
}

# absolute FILE: its path from the root; it must be there
absolute() {
    [[ -f $1 && -r $1 ]] || fail 2 "There is no file '$1' that can be read."
    [[ $1 == /* ]] && printf '%s' "$1" || printf '%s/%s' "$PWD" "$1"
}

# need FLAG VALUE...: the flag has a value
need() {
    (($# > 1)) || fail 2 "$1 needs a value; see ./run_mdm_pipeline.sh --help"
}

# need_number LEAST FLAG VALUE...: the value is a whole number, not below the least
need_number() {
    need "${@:2}"
    if [[ ! $3 =~ ^[0-9]{1,9}$ ]] || ((10#$3 < $1)); then
        fail 2 "$2 takes a whole number from $1, not '$3'."
    fi
}

# parse ARGUMENTS...: the flags and the command, into the variables above
parse() {
    while (($#)); do
        case $1 in
        --from | --to | --only | --no-producers | --records | --seed | --retrain) run_flags+=("$1") ;;
        esac
        case $1 in
        --*=*)
            set -- "${1%%=*}" "${1#*=}" "${@:2}"
            continue
            ;;
        --from)
            need "$@"
            first_phase=$(position_of "$2")
            shift
            ;;
        --to)
            need "$@"
            last_phase=$(position_of "$2")
            shift
            ;;
        --only)
            need "$@"
            first_phase=$(position_of "$2")
            last_phase=$first_phase
            shift
            ;;
        --no-producers) with_producers=false ;;
        --records)
            need_number 1 "$@"
            producer_arguments+=("$1" "$2")
            shift
            ;;
        --seed)
            need_number 0 "$@"
            producer_arguments+=("$1" "$2")
            shift
            ;;
        --retrain) matching_arguments+=("$1") ;;
        --source)
            need "$@"
            source_name=$2
            shift
            ;;
        --yes) is_sure=true ;;
        --sources)
            need "$@"
            MDM_SOURCES_FILE=$(absolute "$2")
            export MDM_SOURCES_FILE
            shift
            ;;
        --runtime)
            need "$@"
            [[ $2 =~ ^(docker|embedded|external|auto)$ ]] ||
                fail 2 "--runtime takes docker, embedded, external or auto, not '$2'."
            export MDM_RUNTIME=$2
            shift
            ;;
        --quiet)
            quiet=true
            export MDM_QUIET=true
            ;;
        --list)
            list_phases
            exit 0
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        -*) fail 2 "There is no flag '$1'; see ./run_mdm_pipeline.sh --help" ;;
        psql)
            [[ $command == run ]] || fail 2 "'$command' and 'psql' are two commands; one at a time."
            command=psql
            command_arguments=("${@:2}")
            break
            ;;
        *)
            if [[ $command == load ]]; then
                command_arguments+=("$(absolute "$1")")
            elif [[ $command == run && $1 =~ ^(up|down|status|load|reset)$ ]]; then
                command=$1
            else
                [[ $command == run ]] || fail 2 "'$command' takes no '$1'; see ./run_mdm_pipeline.sh --help"
                fail 2 "There is no command '$1'; see ./run_mdm_pipeline.sh --help"
            fi
            ;;
        esac
        shift
    done
    check_arguments
}

# check_arguments: what does not go together
check_arguments() {
    if [[ $command != run ]] && ((${#run_flags[@]})); then
        fail 2 "${run_flags[0]} is a flag of a run; it does not go with '$command'."
    fi
    if [[ $command != load && -n $source_name ]]; then
        fail 2 "--source goes with the command 'load'; --sources names the file that describes the sources."
    fi
    if [[ $command == load && (-z $source_name || ${#command_arguments[@]} -eq 0) ]]; then
        fail 2 "load needs files and a source: ./run_mdm_pipeline.sh load FILE... --source NAME"
    fi
    if [[ $command != reset ]] && $is_sure; then
        fail 2 "--yes goes with the command 'reset'."
    fi
    ((first_phase <= last_phase)) ||
        fail 2 "Phase ${PHASES[first_phase]%%|*} comes after phase ${PHASES[last_phase]%%|*}: nothing to run."
    if ! $with_producers && ((last_phase == 0)); then
        fail 2 "Phase 1 is the producers, and --no-producers leaves them out: nothing to run."
    fi
    if ((${#producer_arguments[@]})) && { ! $with_producers || ((first_phase > 0)); }; then
        fail 2 "${producer_arguments[0]} is for the producers, phase 1, which this run leaves out."
    fi
    if ((${#matching_arguments[@]})) &&
        ((first_phase > $(position_of 5) || last_phase < $(position_of 5))); then
        fail 2 "${matching_arguments[0]} is for phase 5, which this run leaves out."
    fi
}

# find_python: the name of a Python 3.11 or newer that can make virtual environments
find_python() {
    local candidate found=
    for candidate in python3 python3.{14,13,12,11} python; do
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        found=$candidate
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            printf '%s' "$candidate"
            return
        fi
    done
    [[ -n $found ]] || fail 3 "Python 3.11 or newer is needed and was not found. Install it and run again."
    fail 3 "$("$found" --version) cannot make virtual environments: its module ensurepip is missing." \
        "On Debian and Ubuntu: apt-get install python3-venv"
}

# lock PYTHON DESCRIPTOR [--wait]: lock an open file until this shell and its children have ended; 75 when
# another process holds it
lock() {
    "$1" -I -S -c '
import fcntl, sys
try:
    fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX | (0 if "--wait" in sys.argv else fcntl.LOCK_NB))
except BlockingIOError:
    sys.exit(75)
' "${@:2}"
}

# requirements GROUP...: the pinned packages of pyproject.toml, a line each; core is the project's own
requirements() {
    "$PYTHON" -I -S - "$PROJECT/pyproject.toml" "$@" <<'END'
import sys, tomllib
with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)
groups = {"core": project["project"]["dependencies"], **project["dependency-groups"]}
for group in sys.argv[2:]:
    print(*groups[group], sep="\n")
END
}

# not_installed GROUP...: those of the groups whose packages are not what pyproject.toml says now
not_installed() {
    local group
    for group in "$@"; do
        # A Python that has gone, or that this user cannot run, takes its packages with it.
        if [[ ! -f $VENV/installed-$group || $(<"$VENV/installed-$group") != "$(<"$PROJECT/pyproject.toml")" ]] ||
            ! "$PYTHON" -I -S -c '' 2>/dev/null; then
            printf '%s\n' "$group"
        fi
    done
}

# set_up_venv GROUP...: install the pinned dependencies of these groups (core, test, lint, benchmark) unless
# they are there; a set-up that was killed is done again
set_up_venv() {
    local python missing started=$SECONDS
    [[ -n $(not_installed "$@") ]] || return 0

    python=$(find_python)
    exec 8<"$PROJECT/pyproject.toml"
    if ! lock "$python" 8; then
        say "  waiting for another set-up of .venv"
        lock "$python" 8 --wait
    fi
    # pip takes a package that was half installed for a whole one.
    if [[ -e $VENV/installing ]] || ! "$PYTHON" -m pip --version >/dev/null 2>&1; then
        say "  making .venv"
        "$python" -m venv --clear "$VENV" ||
            fail 3 "$(id -un) cannot make $VENV. Run as the owner of the folder, or from a copy of your own."
    fi
    mapfile -t missing < <(not_installed "$@")
    if ((${#missing[@]})); then
        install_groups "${missing[@]}"
        say "  installed in $((SECONDS - started)) s"
    fi
    exec 8<&-
}

# install_groups GROUP...: their packages into .venv
install_groups() {
    local group log=$VENV/install.log
    # Scripts find the project's packages, also when they are called by hand.
    echo '../../../..' >"$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mdm.pth"
    requirements "$@" >"$VENV/requirements.txt"
    : >"$VENV/installing"
    say "  installing the dependencies: $* (log: $log)"
    run_child "$PYTHON" -m pip install --disable-pip-version-check --no-input \
        --requirement "$VENV/requirements.txt" >"$log" 2>&1 ||
        fail 3 "The dependencies could not be installed. The log, $log, ends:"$'\n'"$(tail -n 4 "$log")"
    for group in "$@"; do
        printf '%s\n' "$(<"$PROJECT/pyproject.toml")" >"$VENV/installed-$group"
    done
    rm -- "$VENV/installing"
}

# make_env_file: .env from .env.example with random passwords; one that is there is left alone
make_env_file() {
    local line
    [[ -e $PROJECT/.env ]] && return
    [[ -w $PROJECT ]] || fail 3 "$(id -un) may not write to $PROJECT, where .env is to be made."
    (
        umask 077
        while IFS= read -r line; do
            [[ $line == *_PASSWORD= ]] && line+=$(od -An -N18 -tx1 /dev/urandom | tr -d ' \n')
            printf '%s\n' "$line"
        done <"$PROJECT/.env.example" >"$PROJECT/.env.$$"
        mv -n -- "$PROJECT/.env.$$" "$PROJECT/.env"
        rm -f -- "$PROJECT/.env.$$"
    )
    say "  made .env with random passwords"
}

# prepare: the virtual environment, the settings, the project's root as the place to work in
prepare() {
    local values
    called_from=$PWD
    cd -- "$PROJECT"
    export PYTHONPATH=$PROJECT
    # Nobody multiplies matrices; its threads, once loaded, wait for it with a core each.
    export OPENBLAS_NUM_THREADS=${OPENBLAS_NUM_THREADS:-1}
    unset PYTHONHOME MDM_RUN_ID
    set_up_venv core
    make_env_file
    # Ctrl-C is for this shell: Python, which has no time to say so well, goes on to its end.
    values=$(
        trap '' INT
        "$PYTHON" db/settings.py mdm_home mdm_quiet minio_host minio_console_port minio_root_user mdm_runtime
    )
    mapfile -t values <<<"$values"
    home=${values[0]}
    [[ ${values[1]} == True ]] && quiet=true
    browser="http://${values[2]}:${values[3]} (user ${values[4]}, MINIO_ROOT_PASSWORD of .env)"
    [[ ${values[5]} == external ]] && browser=
    return 0
}

# hold_home: this MDM_HOME is ours alone until this shell and its children have ended
hold_home() {
    # Open to the servers' user, where root starts them.
    [[ -d $home ]] || { mkdir -p -- "$home" && chmod 755 -- "$home"; } 2>/dev/null || true
    { exec 9>>"$home/run.lock"; } 2>/dev/null ||
        fail 3 "$(id -un) may not write to the folder $home. Run as its owner, or choose another folder" \
            "by MDM_HOME in .env."
    lock "$PYTHON" 9 ||
        fail 1 "Another run is at work here (process $(<"$home/run.lock")). Wait until it has ended," \
            "then run again."
    printf '%s\n' "$$" >"$home/run.lock"
}

# run_child COMMAND...: a command in a process group of its own, so that it can be stopped whole
run_child() {
    local code=0
    set -m
    "$@" </dev/null &
    child=$!
    set +m
    # The shell's own line about a killed child goes nowhere: run_script says it.
    wait "$child" 2>/dev/null || code=$?
    child=
    return "$code"
}

# run_script SCRIPT [ARGUMENTS...]: one of the project's scripts; its exit code is ours where it is one of
# ours, else 1; 141 where nobody reads on
run_script() {
    local code=0
    if $quiet; then
        run_child "$PYTHON" "$@" >/dev/null || code=$?
    else
        run_child "$PYTHON" "$@" || code=$?
    fi
    # nobody reads what is printed: the end of `| head`
    ((code != 141)) || return 141
    ((code <= 128)) || printf '\n%s was ended by signal %s.\n' "$1" "$((code - 128))" >&2
    case $code in
    0 | 2 | 3) return "$code" ;;
    *) return 1 ;;
    esac
}

# interrupted CODE: end what runs, close the run, leave
interrupted() {
    trap '' INT TERM HUP
    if [[ -n $child ]]; then
        kill -TERM -- "-$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    fi
    printf '\nStopped. Nothing half-done was kept; run again to go on.\n' >&2
    exit "$1"
}

# start_stores: both stores answer, and the schema is current
start_stores() {
    run_script db/run_phases.py "${STORES[@]}"
}

# run_pipeline: the phases in order, each announced; the first that fails ends the run
run_pipeline() {
    local position number title scripts script arguments steps=("${STORES[@]}")
    say "Stores and schema"
    for ((position = first_phase; position <= last_phase; position++)); do
        IFS='|' read -r number title scripts <<<"${PHASES[position]}"
        if [[ $number == 1 ]] && ! $with_producers; then
            continue
        fi
        arguments=
        [[ $number == 1 ]] && arguments=" ${producer_arguments[*]}"
        [[ $number == 5 ]] && arguments=" ${matching_arguments[*]}"
        for script in $scripts; do
            steps+=("$number|$title|$script$arguments")
        done
        [[ $number == [67] ]] && steps+=("$BESIDE")
    done
    run_script db/run_phases.py "${steps[@]}" "||gold/run_summary.py"
    say
    say "Query the customers:  ./run_mdm_pipeline.sh psql"
    [[ -z $browser ]] || say "Browse the lake:      $browser"
}

main() {
    parse "$@"
    trap 'interrupted 130' INT
    trap 'interrupted 143' TERM
    trap 'interrupted 129' HUP
    prepare >&2
    case $command in
    run)
        hold_home
        run_pipeline
        ;;
    up)
        hold_home
        start_stores
        ;;
    down)
        hold_home
        run_child "$PYTHON" db/runtime.py down
        ;;
    status) run_child "$PYTHON" db/runtime.py status ;;
    psql)
        # Files are looked for where psql was called.
        cd -- "$called_from"
        exec "$PYTHON" "$PROJECT/db/console.py" "${command_arguments[@]}"
        ;;
    load)
        hold_home
        start_stores
        run_script ingestion/load_files.py --source "$source_name" "${command_arguments[@]}"
        ;;
    reset)
        if $is_sure; then
            hold_home
            run_child "$PYTHON" db/runtime.py reset --yes
        else
            run_child "$PYTHON" db/runtime.py reset
        fi
        ;;
    esac
}

[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@"
