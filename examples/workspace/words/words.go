// Package words knows how to greet.
package words

// Greeting greets name, or everybody when there is none.
func Greeting(name string) string {
	if name == "" {
		name = "everybody"
	}
	return "Hello, " + name + "!"
}
