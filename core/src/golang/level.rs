//! The levels of an architecture: which variable holds them, what it takes, and Go's default.
//!
//! The tables are facts of Go 1.27 (`internal/buildcfg`). A level has one spelling here, since it stands in
//! the lineage of a build and in artifact names.

/// A family of architectures that share one level variable.
struct Levels {
    arches: &'static [&'static str],
    variable: &'static str,
    /// Go's own values, the default first. Empty where Go defines none any more (GOWASM).
    values: &'static [&'static str],
    /// Suffixes that may follow a value, each at most once.
    options: &'static [&'static str],
}

const LEVELS: [Levels; 9] = [
    Levels { arches: &["amd64"], variable: "GOAMD64", values: &["v1", "v2", "v3", "v4"], options: &[] },
    Levels { arches: &["386"], variable: "GO386", values: &["sse2", "softfloat"], options: &[] },
    Levels {
        arches: &["arm"],
        variable: "GOARM",
        values: &["7", "6", "5"],
        options: &["hardfloat", "softfloat"],
    },
    Levels {
        arches: &["arm64"],
        variable: "GOARM64",
        values: &[
            "v8.0", "v8.1", "v8.2", "v8.3", "v8.4", "v8.5", "v8.6", "v8.7", "v8.8", "v8.9", "v9.0", "v9.1",
            "v9.2", "v9.3", "v9.4", "v9.5",
        ],
        options: &["lse", "crypto"],
    },
    Levels {
        arches: &["mips", "mipsle"],
        variable: "GOMIPS",
        values: &["hardfloat", "softfloat"],
        options: &[],
    },
    Levels {
        arches: &["mips64", "mips64le"],
        variable: "GOMIPS64",
        values: &["hardfloat", "softfloat"],
        options: &[],
    },
    Levels {
        arches: &["ppc64", "ppc64le"],
        variable: "GOPPC64",
        values: &["power8", "power9", "power10"],
        options: &[],
    },
    Levels {
        arches: &["riscv64"],
        variable: "GORISCV64",
        values: &["rva20u64", "rva22u64", "rva23u64"],
        options: &[],
    },
    Levels { arches: &["wasm"], variable: "GOWASM", values: &[""], options: &[] },
];

fn levels_of(arch: &str) -> Option<&'static Levels> {
    LEVELS.iter().find(|levels| levels.arches.contains(&arch))
}

/// Go's own default level for an architecture; empty where there is none.
pub(super) fn default_level(arch: &str) -> &'static str {
    levels_of(arch).map_or("", |levels| levels.values[0])
}

/// The one spelling of a level: no options that the value implies, the others in Go's order.
pub(super) fn canonical_level(arch: &str, text: &str) -> Option<String> {
    let Some(levels) = levels_of(arch) else {
        return text.is_empty().then(String::new);
    };
    let mut parts = text.split([',', '+']);
    let first = parts.next().unwrap_or_default();
    let value = levels.values.iter().copied().find(|value| is_spelling_of(arch, value, first))?;
    let mut options: Vec<&str> = Vec::new();
    for part in parts {
        let option = levels.options.iter().copied().find(|option| *option == part)?;
        if options.contains(&option) {
            return None;
        }
        options.push(option);
    }
    if arch == "arm" && options.len() > 1 {
        return None;
    }
    options.retain(|option| !is_implied(value, option));
    options.sort_by_key(|option| levels.options.iter().position(|o| o == option));
    let mut level = value.to_owned();
    for option in options {
        level.push(',');
        level.push_str(option);
    }
    Some(level)
}

fn is_spelling_of(arch: &str, value: &str, text: &str) -> bool {
    match arch {
        _ if text == value => true,
        "arm" => text.strip_prefix('v') == Some(value),
        "arm64" => value.strip_suffix(".0") == Some(text),
        _ => false,
    }
}

/// Go: ARM 5 is soft-float and 6 and 7 hard-float unless said otherwise; LSE is part of ARMv8.1 and later.
fn is_implied(value: &str, option: &str) -> bool {
    match option {
        "softfloat" => value == "5",
        "hardfloat" => value != "5",
        "lse" => value != "v8.0",
        _ => false,
    }
}

/// The variable that holds the architecture's level; `None` for one without levels.
pub(super) fn variable(arch: &str) -> Option<&'static str> {
    levels_of(arch).map(|levels| levels.variable)
}

/// What to write instead of a level that does not exist.
pub(super) fn level_advice(arch: &str) -> String {
    match levels_of(arch) {
        Some(levels) if levels.values != [""] => {
            let mut advice = format!("{} is one of {}", levels.variable, levels.values.join(", "));
            if !levels.options.is_empty() {
                advice.push_str(&format!(", and may end in +{}", levels.options.join(" or +")));
            }
            advice
        }
        _ => "this architecture has no levels".to_owned(),
    }
}
