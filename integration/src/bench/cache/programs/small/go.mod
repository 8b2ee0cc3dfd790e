module example.test/small

go 1.21
