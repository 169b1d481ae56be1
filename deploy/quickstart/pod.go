package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os/signal"
	"syscall"
	"time"
)

// An answer is what a demonstration pod says: who it is and what it was told.
type answer struct {
	Service string `json:"service"`
	Version string `json:"version"`
	Pod     string `json:"pod"`
	Path    string `json:"path"`
	Branch  string `json:"branch,omitempty"`
	Teller  string `json:"teller,omitempty"`
	Client  string `json:"client,omitempty"` // X-Forwarded-For as the gateway wrote it
}

// runPod serves one demonstration pod until it is told to stop.
func runPod(args []string) error {
	flags := flag.NewFlagSet("pod", flag.ExitOnError)
	name := flags.String("name", "counter-v1-a", "the pod's name")
	version := flags.String("version", "v1", "the pod's version")
	address := flags.String("address", "127.0.0.1:0", "where it listens")
	_ = flags.Parse(args) // ExitOnError
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return fmt.Errorf("pod %s: %w", *name, err)
	}
	server := &http.Server{Handler: podHandler(*name, *version), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("pod %s: %w", *name, err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return server.Shutdown(grace)
}

func podHandler(name, version string) http.Handler {
	say := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer{
			Service: "counter", Version: version, Pod: name, Path: r.URL.Path,
			Branch: r.Header.Get("X-Branch-Id"), Teller: r.Header.Get("X-Teller-Id"),
			Client: r.Header.Get("X-Forwarded-For"),
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", say)
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "JSESSIONID", Value: rand.Text(), Path: "/", HttpOnly: true})
		say(w, r)
	})
	mux.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
		http.SetCookie(w, &http.Cookie{Name: "JSESSIONID", Path: "/", MaxAge: -1})
		say(w, r)
	})
	return mux
}
