# Checks of the cluster. Each prints one line and returns 0 (fine), 1 (warn) or 2 (broken).

check_disk() {  # PATH WARN% CRIT%
    local used
    used=$(df -P "$1" | awk 'NR == 2 { sub("%", "", $5); print $5 }')
    judge "$used" "$2" "$3" "$1 is $used% full"
}

check_load() {  # WARN CRIT
    local load
    load=$(cut -d. -f1 /proc/loadavg)
    judge "$load" "$1" "$2" "load $load"
}

check_tcp() {  # HOST PORT
    if timeout 3 bash -c ": </dev/tcp/$1/$2" 2>/dev/null; then
        echo "$1:$2 answers"
    else
        echo "$1:$2 does not answer"
        return 2
    fi
}

check_file_age() {  # FILE SECONDS
    local age
    [ -e "$1" ] || { echo "$1 is missing"; return 2; }
    age=$(( $(date +%s) - $(stat -c %Y "$1") ))
    judge "$age" "$2" $(( $2 * 3 )) "$1 is ${age}s old"
}

check_dir_owner() {  # DIR USER GROUP
    local strays
    strays=$(find "$1" -maxdepth 2 ! \( -user "$2" -group "$3" \) -print | head -n 3)
    [ -z "$strays" ] || { echo "wrong owner: $strays"; return 2; }
    echo "$1 belongs to $2:$3"
}

judge() {  # VALUE WARN CRIT TEXT
    echo "$4"
    [ "$1" -lt "$3" ] || return 2
    [ "$1" -lt "$2" ] || return 1
}
