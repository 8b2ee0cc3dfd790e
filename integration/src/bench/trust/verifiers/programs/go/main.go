// Command go-crypto-peer verifies with nothing but Go's standard library:
//
//	go-crypto-peer raw|message|provenance KEY.pub FILE ARTIFACT
//
// FILE is the bare signature in base64, or a bundle. It exits with 0 when it accepts, with 1 and a reason when it does
// not.
package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

type bundle struct {
	MediaType            string `json:"mediaType"`
	VerificationMaterial any    `json:"verificationMaterial"`
	MessageSignature     *struct {
		MessageDigest struct {
			Algorithm string `json:"algorithm"`
			Digest    []byte `json:"digest"`
		} `json:"messageDigest"`
		Signature []byte `json:"signature"`
	} `json:"messageSignature"`
	DsseEnvelope *struct {
		Payload     []byte `json:"payload"`
		PayloadType string `json:"payloadType"`
		Signatures  []struct {
			Sig []byte `json:"sig"`
		} `json:"signatures"`
	} `json:"dsseEnvelope"`
}

type statement struct {
	Subject []struct {
		Digest map[string]string `json:"digest"`
	} `json:"subject"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return errors.New("expected FORM KEY.pub FILE ARTIFACT")
	}
	var files [3][]byte
	for i, name := range args[1:] {
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		files[i] = content
	}
	block, _ := pem.Decode(files[0])
	if block == nil || block.Type != "PUBLIC KEY" {
		return errors.New("the key is no PEM public key")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return err
	}
	if args[0] == "raw" {
		signature, err := base64.StdEncoding.DecodeString(string(files[1]))
		if err != nil {
			return err
		}
		return verify(key, files[2], signature)
	}
	return verifyBundle(args[0], key, files[1], files[2])
}

func verifyBundle(form string, key any, content, artifact []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.DisallowUnknownFields()
	var b bundle
	if err := decoder.Decode(&b); err != nil {
		return err
	}
	if (b.MessageSignature == nil) == (b.DsseEnvelope == nil) {
		return errors.New("a bundle has one kind of content")
	}
	digest := sha256.Sum256(artifact)
	if m := b.MessageSignature; form == "message" && m != nil {
		if m.MessageDigest.Algorithm != "SHA2_256" || !bytes.Equal(m.MessageDigest.Digest, digest[:]) {
			return errors.New("the bundle is about another content")
		}
		return verify(key, artifact, m.Signature)
	}
	e := b.DsseEnvelope
	if form != "provenance" || e == nil || len(e.Signatures) != 1 {
		return errors.New("expected one envelope with one signature")
	}
	if e.PayloadType != "application/vnd.in-toto+json" {
		return fmt.Errorf("the payload is a %q", e.PayloadType)
	}
	head := fmt.Sprintf("DSSEv1 %d %s %d ", len(e.PayloadType), e.PayloadType, len(e.Payload))
	if err := verify(key, append([]byte(head), e.Payload...), e.Signatures[0].Sig); err != nil {
		return err
	}
	var s statement
	if err := json.Unmarshal(e.Payload, &s); err != nil {
		return err
	}
	if len(s.Subject) != 1 || s.Subject[0].Digest["sha256"] != hex.EncodeToString(digest[:]) {
		return errors.New("the statement is about another content")
	}
	return nil
}

func verify(key any, message, signature []byte) error {
	var good bool
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(message)
		good = ecdsa.VerifyASN1(key, digest[:], signature)
	case ed25519.PublicKey:
		good = ed25519.Verify(key, message, signature)
	default:
		return fmt.Errorf("a key of type %T", key)
	}
	if !good {
		return errors.New("the signature is not this key's over this content")
	}
	return nil
}
