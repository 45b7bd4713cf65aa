report() {
    printf "%s\n" "$*"
}
