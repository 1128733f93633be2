# curl's ways to ask: bash curl_client.sh WAY URL WORKERS TIMES
# So many loops run side by side; each starts curl for each request (loop), or once with all its addresses (urls).
way=$1 url=$2 workers=$3 times=$4

ask_in_a_loop() {
    for _ in $(seq "$times"); do
        curl --silent --show-error --output /dev/null "$url"
    done
}

ask_at_once() {
    curl --silent --show-error $(for _ in $(seq "$times"); do echo --output /dev/null "$url"; done)
}

for _ in $(seq "$workers"); do
    if [ "$way" = loop ]; then ask_in_a_loop & else ask_at_once & fi
done
wait
