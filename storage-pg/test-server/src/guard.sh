# Waits until the process that holds the other end of our standard input is gone, however it went, then ends the
# servers that run in the directory $GUARDED and removes it.
trap '' INT HUP TERM QUIT
while read -r _; do :; done

# The programs that were started for the directory. Recognised by their command line, so that one which was started
# a moment before the end is found too. The directory stands in our environment, never in a command line of ours.
servers() {
    printf '%s\n' "$GUARDED/data" "$GUARDED/pgbouncer.ini" "$GUARDED/relay.conf" | grep -laF -f - /proc/[0-9]*/cmdline | cut -d/ -f3
}
children() {
    grep -lE "^PPid:[[:space:]]+$1\$" /proc/[0-9]*/status | cut -d/ -f3
}
end() {
    tries=400
    while
        pids=$(servers)
        [ -n "$pids" ]
    do
        for pid in $pids; do
            name=$(cat "/proc/$pid/comm")
            if [ "$tries" -le 0 ] || [ "$name" = pgbouncer ] || [ "$name" = haproxy ]; then
                # PgBouncer has nothing to put in order, and each version takes milder signals in its own way.
                kill -KILL "$pid"
            elif [ "$name" = pgpool ]; then
                # The one that the others belong to takes them along.
                kill -INT "$pid"
            elif [ "$name" != initdb ]; then
                # PostgreSQL's immediate shutdown. Again and again: one that is just starting may miss it. Killed, it
                # would leave its shared memory behind; so would the helpers of initdb, which ends soon by itself.
                kill -QUIT "$pid"
                # A paused process does not see the signal.
                for paused in "$pid" $(children "$pid"); do kill -CONT "$paused"; done
            fi
        done
        tries=$((tries - 1))
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
