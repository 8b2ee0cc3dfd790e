package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHandler(t *testing.T) {
	for _, test := range []struct {
		path, want string
		status     int
	}{
		{"/", "<h1>Hello</h1>", http.StatusOK},
		{"/version", "development", http.StatusOK},
		{"/nowhere", "404", http.StatusNotFound},
	} {
		answer := httptest.NewRecorder()
		handler().ServeHTTP(answer, httptest.NewRequest("GET", test.path, nil))
		if answer.Code != test.status || !strings.Contains(answer.Body.String(), test.want) {
			t.Errorf("%s: got %d %q, want %d with %q", test.path, answer.Code, answer.Body, test.status, test.want)
		}
	}
}
