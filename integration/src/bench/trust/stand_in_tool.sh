#!/bin/sh
# A signer or a maker of documents, of which only the names of what it writes count: it writes an empty file wherever
# its arguments name one.
last=
for word; do
    case $word in
    *=*) : >"${word#*=}" ;;
    *) [ "$last" = --output ] && : >"$word" ;;
    esac
    last=$word
done 2>/dev/null
exit 0
