//! How cmd/go is told to start the cache's shim.

use std::path::Path;

/// The value of GOCACHEPROG. cmd/go splits it at blanks and takes quoted parts as they are, without escapes.
#[must_use]
pub fn shim_command(shim: &Path, socket: &Path) -> Option<String> {
    Some(format!("{} cacheprog --socket {}", quoted(shim.to_str()?)?, quoted(socket.to_str()?)?))
}

/// The same for a go command beside the agent, at the socket that all of those share, which may be of `owner`.
#[must_use]
pub fn shim_command_beside(
    shim: &Path,
    socket: &Path,
    project: Option<&str>,
    owner: Option<u32>,
) -> Option<String> {
    let mut command = format!("{} cacheprog --beside {}", quoted(shim.to_str()?)?, quoted(socket.to_str()?)?);
    // Neither has anything that would have to be quoted.
    if let Some(project) = project {
        command += &format!(" --project {project}");
    }
    if let Some(owner) = owner {
        command += &format!(" --owner {owner}");
    }
    Some(command)
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

    #[test]
    fn what_a_shim_beside_an_agent_is_told_is_what_was_said() {
        let command =
            |project, owner| shim_command_beside(Path::new("/m"), Path::new("/s"), project, owner).unwrap();
        assert_eq!(command(None, None), "'/m' cacheprog --beside '/s'");
        assert_eq!(command(Some("a/b"), Some(7)), "'/m' cacheprog --beside '/s' --project a/b --owner 7");
    }
}
