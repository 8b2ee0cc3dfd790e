module example.org/hello-http

go 1.24
