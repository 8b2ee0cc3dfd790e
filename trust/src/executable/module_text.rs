//! The lines inside a build info: `path`, `mod`, `dep`, `=>` and `build`, as Go's `runtime/debug` reads them.

use super::{
    build_info::{BuildInfo, BuildInfoError, Module, Setting},
    quote::unquote_prefix,
};

/// Reads the lines into `info`. A line of an unknown kind is passed over, as is a last one without a line break.
pub(super) fn parse(text: &str, info: &mut BuildInfo) -> Result<(), BuildInfoError> {
    // Which module a following `=>` line replaces.
    let mut replaceable = Replaceable::None;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let Some(line) = line.strip_suffix('\n') else { break };
        let error = |why| BuildInfoError::Line { line: index + 1, why };
        let Some((kind, rest)) = line.split_once('\t') else { continue };
        match kind {
            "path" => rest.clone_into(&mut info.path),
            "mod" => {
                info.main = Some(module(rest).map_err(error)?);
                replaceable = Replaceable::Main;
            }
            "dep" => {
                info.deps.push(module(rest).map_err(error)?);
                replaceable = Replaceable::LastDep;
            }
            "=>" => {
                let replaced = match std::mem::replace(&mut replaceable, Replaceable::None) {
                    Replaceable::None => None,
                    Replaceable::Main => info.main.as_mut(),
                    Replaceable::LastDep => info.deps.last_mut(),
                };
                let replaced = replaced.ok_or(error("a replacement without a module before it"))?;
                if rest.split('\t').count() != 3 {
                    return Err(error("a replacement is a path, a version and a sum"));
                }
                replaced.replace = Some(Box::new(module(rest).map_err(error)?));
            }
            "build" => info.settings.push(setting(rest).map_err(error)?),
            _ => {}
        }
    }
    Ok(())
}

enum Replaceable {
    None,
    Main,
    LastDep,
}

fn module(columns: &str) -> Result<Module, &'static str> {
    let mut columns = columns.split('\t');
    let (Some(path), Some(version), sum, None) =
        (columns.next(), columns.next(), columns.next(), columns.next())
    else {
        return Err("a module is a path, a version and perhaps a sum");
    };
    Ok(Module {
        path: path.to_owned(),
        version: version.to_owned(),
        sum: sum.unwrap_or_default().to_owned(),
        replace: None,
    })
}

fn setting(text: &str) -> Result<Setting, &'static str> {
    let (key, value) = if text.starts_with(['"', '`']) {
        let (key, rest) = unquote_prefix(text).ok_or("a setting's quoted key is malformed")?;
        (key, rest.strip_prefix('=').ok_or("a setting has no = after its quoted key")?)
    } else {
        let (key, value) = text.split_once('=').ok_or("a setting has no =")?;
        if key.is_empty() || needs_quotes(key) {
            return Err("a setting's key is missing or must be quoted");
        }
        (key.to_owned(), value)
    };
    let value = if value.starts_with(['"', '`']) {
        let (value, rest) = unquote_prefix(value).ok_or("a setting's quoted value is malformed")?;
        if !rest.is_empty() {
            return Err("a setting's value goes on after its quotes");
        }
        value
    } else if needs_quotes(value) {
        return Err("a setting's value must be quoted");
    } else {
        value.to_owned()
    };
    Ok(Setting { key, value })
}

fn needs_quotes(text: &str) -> bool {
    text.contains([' ', '\t', '\r', '\n', '"', '`'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BuildInfo, BuildInfoError> {
        let mut info = BuildInfo::default();
        parse(text, &mut info).map(|()| info)
    }

    fn module(path: &str, version: &str, sum: &str) -> Module {
        Module { path: path.into(), version: version.into(), sum: sum.into(), replace: None }
    }

    #[test]
    fn every_kind_of_line_is_read() {
        let info = read(
            "path\tx.test/cmd/a\nmod\tx.test\tv1.0.0\th1:a=\ndep\tb.test\tv0.1.0\n=>\t./b\t\t\ndep\tc.test\tv2.0.0+incompatible\th1:c=\n\
             build\t-tags=a,b\nbuild\t-ldflags=\"-X main.x=\\\"a b\\\"\"\nbuild\t\"odd key\"=`v w`\nbuild\tempty=\nfuture\tline\nno tab\n",
        )
        .unwrap();
        assert_eq!(info.path, "x.test/cmd/a");
        assert_eq!(info.main, Some(module("x.test", "v1.0.0", "h1:a=")));
        let mut replaced = module("b.test", "v0.1.0", "");
        replaced.replace = Some(Box::new(module("./b", "", "")));
        assert_eq!(info.deps, [replaced, module("c.test", "v2.0.0+incompatible", "h1:c=")]);
        let settings: Vec<_> = info.settings.iter().map(|s| (s.key.as_str(), s.value.as_str())).collect();
        assert_eq!(
            settings,
            [("-tags", "a,b"), ("-ldflags", "-X main.x=\"a b\""), ("odd key", "v w"), ("empty", "")]
        );
    }

    #[test]
    fn a_malformed_line_is_named() {
        for (text, line) in [
            ("path\tx\nmod\tx\n", 2),
            ("mod\tx\tv1\th\tmore\n", 1),
            ("=>\tx\tv1\th\n", 1),
            ("dep\tx\tv1\th\n=>\ty\tv1\n", 2),
            ("dep\tx\tv1\th\n=>\ty\tv1\th\n=>\tz\tv1\th\n", 3),
            ("build\t\n", 1),
            ("build\t=v\n", 1),
            ("build\ta b=c\n", 1),
            ("build\ta=b c\n", 1),
            ("build\t\"a\"b=c\n", 1),
            ("build\ta=\"b\n", 1),
            ("build\ta=\"b\"c\n", 1),
        ] {
            let error = read(text).unwrap_err();
            assert!(
                matches!(error, BuildInfoError::Line { line: at, .. } if at == line),
                "{text:?}: {error}"
            );
        }
    }

    #[test]
    fn a_last_line_without_a_line_break_does_not_count() {
        assert_eq!(read("path\ta\npath\tb").unwrap().path, "a");
    }
}
