//! How fast logs are masked, for timing by hand: `redaction_speed FILE` masks the file again and again.

use std::time::{Duration, Instant};

use meridian_agent::redaction::{Redaction, Secret};

const RUN_FOR: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: redaction_speed FILE")?;
    let text = std::fs::read(path)?;
    let secrets: Vec<Secret> = (0..20_u64)
        .map(|n| {
            Secret::new("S", format!("{:x}-secret-of-mine", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).as_bytes())
        })
        .collect::<Result<_, _>>()?;
    for (what, redaction) in [("shapes", Redaction::default()), ("20 secrets", Redaction::new(&secrets)?)] {
        let (began, mut masked, mut out) = (Instant::now(), 0, Vec::new());
        let mut redactor = redaction.redactor();
        while began.elapsed() < RUN_FOR {
            for piece in text.chunks(4096) {
                redactor.push(piece, &mut out);
                out.clear();
            }
            masked += text.len();
        }
        let mb_per_s = masked as f64 / 1e6 / began.elapsed().as_secs_f64();
        println!("{what}: {mb_per_s:.0} MB/s");
    }
    Ok(())
}
