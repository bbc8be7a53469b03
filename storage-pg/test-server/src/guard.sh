# Waits until the process that holds the other end of our standard input is gone, however it went, then ends the
# servers that run in the directory $GUARDED and removes it.
trap '' INT HUP TERM QUIT
while read -r _; do :; done

# The programs that were started for the directory. Recognised by their command line, so that one which was started
# a moment before the end is found too. The directory stands in our environment, never in a command line of ours.
servers() {
    printf '%s\n' "$GUARDED/data" "$GUARDED/pgbouncer.ini" | grep -laF -f - /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3
}
children() {
    for parent; do
        grep -lE "^PPid:[[:space:]]+$parent\$" /proc/[0-9]*/status 2>/dev/null | cut -d/ -f3
    done
}
# shellcheck disable=SC2046,SC2086 # Lists of process ids are meant to be split.
end() {
    pids=$(servers)
    [ -n "$pids" ] || return
    # It has nothing to put in order, and what a milder signal does depends on its version and on who started us: a
    # shell's background jobs ignore some.
    [ ! -e "$GUARDED/pgbouncer.ini" ] || kill -KILL $pids
    family="$pids $(children $pids)"
    # QUIT is PostgreSQL's immediate shutdown. CONT: a paused process would not see it.
    kill -QUIT $pids
    kill -CONT $family
    tries=100
    while [ -n "$(servers)" ]; do
        tries=$((tries - 1))
        if [ "$tries" -lt 0 ]; then
            kill -KILL $(servers) $family
            return
        fi
        sleep 0.05
    done
}
end 2>/dev/null

# A program that was just starting may still make a file between two attempts.
tries=100
while [ -e "$GUARDED" ] && [ "$tries" -gt 0 ]; do
    rm -rf "$GUARDED" 2>/dev/null
    tries=$((tries - 1))
    [ ! -e "$GUARDED" ] || sleep 0.05
done
