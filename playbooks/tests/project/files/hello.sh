#!/bin/sh
echo "script says $1 in $(pwd)"
