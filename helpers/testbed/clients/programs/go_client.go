// Go's ways to ask: go_client WAY URL WORKERS TIMES
// So many workers ask so many times each. Then the program says `done` and does nothing until its input ends.
package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
)

func main() {
	way, url := os.Args[1], os.Args[2]
	workers, _ := strconv.Atoi(os.Args[3])
	times, _ := strconv.Atoi(os.Args[4])

	transport := http.DefaultTransport.(*http.Transport)
	if way == "pool-20" {
		transport.MaxIdleConnsPerHost = 20
	}
	if keys := os.Getenv("SSLKEYLOGFILE"); keys != "" {
		log, _ := os.OpenFile(keys, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0600)
		transport.TLSClientConfig = &tls.Config{KeyLogWriter: log}
	}

	var all sync.WaitGroup
	for worker := 0; worker < workers; worker++ {
		all.Add(1)
		go func() {
			defer all.Done()
			for time := 0; time < times; time++ {
				ask(url, way != "unread")
			}
		}()
	}
	all.Wait()
	fmt.Println("done")
	io.Copy(io.Discard, os.Stdin)
}

func ask(url string, read bool) {
	answer, err := http.Get(url)
	if err != nil {
		panic(err)
	}
	defer answer.Body.Close()
	if read {
		io.Copy(io.Discard, answer.Body)
	}
}
