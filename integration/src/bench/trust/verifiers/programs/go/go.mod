module example.com/go-crypto-peer

go 1.22
