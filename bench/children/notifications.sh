#!/bin/sh
# An app-server that answers `initialize`, and the next request with MEGABYTES of notifications.
if [ "$1" = --version ]; then echo "codex-cli 0.169.0"; exit 0; fi
read -r line; echo '{"id":0,"result":{}}'
read -r line
read -r line; echo '{"id":1,"result":{}}'
line='{"method":"item/agentMessage/delta","params":{"threadId":"01a1f6cd-7e5b-7451-8c66-48b5fcaa07af","turnId":"01a1f6cd-7e5b-7451-8c66-48b5fcaa07b0","itemId":"msg_0a1b2c3d4e5f","delta":"a few words of an answer"},"emittedAtMs":1795159221861}'
yes "$line" | head -c "$((MEGABYTES * 1000000 / (${#line} + 1) * (${#line} + 1)))"
echo '{"method":"last"}'
cat >/dev/null
