module example.org/greeter

go 1.24

require example.org/words v0.0.0
