#!/usr/bin/python3
import sys

if sys.argv[1:] == ["--version"]:
    print("app 1.4.2")
