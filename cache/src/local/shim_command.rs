//! How cmd/go is told to start the cache's shim.

use std::path::Path;

/// The value of GOCACHEPROG. cmd/go splits it at blanks and takes quoted parts as they are, without escapes.
#[must_use]
pub fn shim_command(shim: &Path, socket: &Path) -> Option<String> {
    Some(format!("{} cacheprog --socket {}", quoted(shim.to_str()?)?, quoted(socket.to_str()?)?))
}

/// The same for a go command beside the agent, at the socket that all of those share.
#[must_use]
pub fn shim_command_beside(shim: &Path, socket: &Path, project: Option<&str>) -> Option<String> {
    let command = format!("{} cacheprog --beside {}", quoted(shim.to_str()?)?, quoted(socket.to_str()?)?);
    // A project's name has nothing that would have to be quoted.
    Some(project.map_or_else(|| command.clone(), |project| format!("{command} --project {project}")))
}

fn quoted(text: &str) -> Option<String> {
    let quote = ['\'', '"'].into_iter().find(|quote| !text.contains(*quote))?;
    Some(format!("{quote}{text}{quote}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_in_a_directory_with_blanks_or_quotes_is_one_word_to_cmd_go() {
        let command = |shim: &str| shim_command(Path::new(shim), Path::new("/run/user 1/cache"));
        assert_eq!(
            command("/home/ann/my tools/meridian").unwrap(),
            "'/home/ann/my tools/meridian' cacheprog --socket '/run/user 1/cache'"
        );
        assert!(command("/ann's/meridian").unwrap().starts_with("\"/ann's/meridian\" cacheprog"));
        assert_eq!(command("/ann's \"best\"/meridian"), None);
    }
}
