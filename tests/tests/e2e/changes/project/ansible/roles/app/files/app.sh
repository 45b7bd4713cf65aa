#!/bin/sh
[ "$1" = version ] && echo 1.4 || exit 1
