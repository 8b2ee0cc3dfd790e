// The small program of the bench: a web server as people write their first one, of the standard library alone.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"html/template"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"time"
)

var page = template.Must(template.New("page").Parse(
	`<!doctype html><title>notes</title><ul>{{range .}}<li>{{.Text}} ({{.Written.Format "15:04"}})</li>{{end}}</ul>`))

type note struct {
	Text    string    `json:"text"`
	Written time.Time `json:"written"`
}

type board struct {
	mu    sync.RWMutex
	notes []note
}

func (b *board) list(w http.ResponseWriter, _ *http.Request) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if err := page.Execute(w, b.notes); err != nil {
		slog.Error("cannot render", "error", err)
	}
}

func (b *board) add(w http.ResponseWriter, r *http.Request) {
	var added note
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&added); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	added.Written = time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notes = append(b.notes, added)
	w.WriteHeader(http.StatusCreated)
}

func main() {
	address := flag.String("listen", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	notes := &board{}
	routes := http.NewServeMux()
	routes.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			notes.add(w, r)
			return
		}
		notes.list(w, r)
	})
	server := &http.Server{Addr: *address, Handler: routes, ReadHeaderTimeout: 5 * time.Second}
	interrupted, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	go func() {
		<-interrupted.Done()
		_ = server.Shutdown(context.Background())
	}()
	if err := server.ListenAndServe(); err != nil && !errors.Is(err, http.ErrServerClosed) {
		slog.Error("cannot serve", "error", err)
		os.Exit(1)
	}
}
