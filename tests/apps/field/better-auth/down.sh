#!/usr/bin/env bash
. "$APPS_LIB/app.sh"
stop_all
