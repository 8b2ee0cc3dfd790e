package words

import "testing"

func TestGreeting(t *testing.T) {
	for name, want := range map[string]string{"": "Hello, everybody!", "Ada": "Hello, Ada!"} {
		if got := Greeting(name); got != want {
			t.Errorf("Greeting(%q) = %q, want %q", name, got, want)
		}
	}
}
