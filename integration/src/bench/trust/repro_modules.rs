//! The commands that the reproducibility bench builds: public, pure Go, at pinned versions, each of another module.
//!
//! They are programs that people install, chosen for how little they compile beside the standard library, since each
//! is built ten times from an empty build cache. The small ones come first.

/// Import path of a command, and its module's version.
pub const MODULES: &[(&str, &str)] = &[
    ("github.com/go-bindata/go-bindata/go-bindata", "v3.1.2+incompatible"),
    ("github.com/jmespath/go-jmespath/cmd/jpgo", "v0.4.0"),
    ("golang.org/x/perf/cmd/benchstat", "v0.0.0-20260908200009-22c9c6c9d4da"),
    ("github.com/BurntSushi/toml/cmd/tomlv", "v1.6.0"),
    ("github.com/pelletier/go-toml/v2/cmd/tomljson", "v2.4.3"),
    ("github.com/fzipp/gocyclo/cmd/gocyclo", "v0.6.0"),
    ("filippo.io/age/cmd/age-keygen", "v1.3.2"),
    ("github.com/mibk/dupl", "v1.1.0"),
    ("github.com/fatih/gomodifytags", "v1.17.0"),
    ("mvdan.cc/sh/v3/cmd/shfmt", "v3.14.1"),
    ("mvdan.cc/gofumpt", "v0.12.0"),
    ("github.com/google/addlicense", "v1.1.1"),
    ("github.com/jgautheron/goconst/cmd/goconst", "v1.11.0"),
    ("github.com/junegunn/fzf", "v0.65.2"),
    ("github.com/mailru/easyjson/easyjson", "v0.9.2"),
    ("github.com/gogo/protobuf/protoc-gen-gogo", "v1.3.2"),
    ("honnef.co/go/tools/cmd/structlayout", "v0.8.2"),
    ("github.com/gordonklaus/ineffassign", "v0.2.0"),
    ("github.com/kisielk/errcheck", "v1.30.0"),
    ("google.golang.org/protobuf/cmd/protoc-gen-go", "v1.36.12"),
    ("golang.org/x/tools/cmd/stringer", "v0.52.0"),
    ("github.com/dmarkham/enumer", "v1.7.2"),
    ("github.com/mdempsky/unconvert", "v0.0.0-20260816212528-33842c47157a"),
    ("github.com/google/wire/cmd/wire", "v0.7.0"),
    ("github.com/google/go-jsonnet/cmd/jsonnet", "v0.22.0"),
    ("github.com/nishanths/exhaustive/cmd/exhaustive", "v0.17.1"),
    ("github.com/uudashr/gocognit/cmd/gocognit", "v1.3.0"),
    ("github.com/golangci/misspell/cmd/misspell", "v0.8.0"),
    ("github.com/klauspost/compress/s2/cmd/s2c", "v1.20.4"),
    ("google.golang.org/grpc/cmd/protoc-gen-go-grpc", "v1.6.2"),
    ("github.com/planetscale/vtprotobuf/cmd/protoc-gen-go-vtproto", "v0.6.0"),
    ("go.uber.org/mock/mockgen", "v0.6.0"),
    ("github.com/tinylib/msgp", "v1.6.5"),
    ("github.com/rogpeppe/go-internal/cmd/testscript", "v1.16.0"),
];
