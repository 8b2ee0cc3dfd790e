// Command greet greets whom its arguments name. Its words come from another module of the workspace.
package main

import (
	"fmt"
	"os"
	"strings"

	"example.org/words"
)

func main() {
	fmt.Println(words.Greeting(strings.Join(os.Args[1:], " ")))
}
