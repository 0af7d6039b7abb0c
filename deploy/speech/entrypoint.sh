#!/bin/sh
# Runs the client as the owner of the folder that it writes to: results belong to whoever mounted it, and a container
# that was started as root does not stay so. Where a user was chosen (docker run --user), it stays that one.
set -eu

folder=/usr/local/batch/output
flag=
for word; do
  case $flag in -output_folder | --output_folder | --output-folder) folder=$word ;; esac
  case $word in -output_folder=* | --output_folder=* | --output-folder=*) folder=${word#*=} ;; esac
  flag=$word
done
until [ -e "$folder" ]; do folder=$(dirname "$folder"); done

if [ "$(id -u)" = 0 ]; then
  export HOME=/tmp
  exec setpriv --reuid "$(stat -c %u "$folder")" --regid "$(stat -c %g "$folder")" --clear-groups run-batch-client "$@"
fi
exec run-batch-client "$@"
