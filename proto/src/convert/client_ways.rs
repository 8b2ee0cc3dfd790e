//! How far everything is from a client.

use meridian_core::{
    id::RegionName,
    quantity::ByteCount,
    schedule::delivery::{ClientWay, ClientWays, REGIONS_MAX},
};

use super::field::{ConvertError, text};
use crate::v1;

/// The ways as they go over the wire; the one to the coordinator names no region.
#[must_use]
pub fn to_wire(ways: &ClientWays) -> Vec<v1::ClientWay> {
    let wire = |region: String, way: &ClientWay| v1::ClientWay {
        region,
        rtt_us: way.rtt_us,
        bytes_per_s: way.bytes_per_s.map(|bytes| bytes.0),
    };
    let coordinator = ways.coordinator.iter().map(|way| wire(String::new(), way));
    coordinator.chain(ways.regions.iter().map(|(region, way)| wire(region.to_string(), way))).collect()
}

/// The ways that a client said; nothing when it said nothing.
///
/// # Errors
/// When there are more than [`REGIONS_MAX`] regions, one is named twice or by no name, or a figure is zero.
pub fn from_wire(wire: &[v1::ClientWay]) -> Result<Option<ClientWays>, ConvertError> {
    if wire.is_empty() {
        return Ok(None);
    }
    if wire.len() > REGIONS_MAX + 1 {
        let reason = format!("has {} ways, and {REGIONS_MAX} regions are the most", wire.len());
        return Err(ConvertError::new("ways", reason));
    }
    let mut ways = ClientWays::default();
    for (index, way) in wire.iter().enumerate() {
        add(&mut ways, way).map_err(|error| error.within(format_args!("ways[{index}]")))?;
    }
    if ways.regions.len() > REGIONS_MAX {
        return Err(ConvertError::new("ways", format_args!("{REGIONS_MAX} regions are the most")));
    }
    Ok(Some(ways))
}

fn add(ways: &mut ClientWays, wire: &v1::ClientWay) -> Result<(), ConvertError> {
    if wire.rtt_us == 0 {
        return Err(ConvertError::new("rtt_us", "is zero"));
    }
    if wire.bytes_per_s == Some(0) {
        return Err(ConvertError::new("bytes_per_s", "is zero"));
    }
    let way = ClientWay { rtt_us: wire.rtt_us, bytes_per_s: wire.bytes_per_s.map(ByteCount) };
    let earlier = if wire.region.is_empty() {
        ways.coordinator.replace(way)
    } else {
        let region: RegionName = text(&wire.region, "region")?;
        ways.regions.insert(region, way)
    };
    match earlier {
        None => Ok(()),
        Some(_) => Err(ConvertError::new("region", "is there twice")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(region: &str, rtt_us: u64, bytes_per_s: Option<u64>) -> v1::ClientWay {
        v1::ClientWay { region: region.to_owned(), rtt_us, bytes_per_s }
    }

    #[test]
    fn what_a_client_measured_is_read_as_it_was_said() {
        let said = vec![way("", 80_000, Some(9_000_000)), way("eu", 12_000, None), way("us", 1, Some(1))];
        let ways = from_wire(&said).unwrap().unwrap();
        assert_eq!(ways.coordinator.unwrap().rtt_us, 80_000);
        assert_eq!(ways.regions.len(), 2);
        assert_eq!(to_wire(&ways), said);
        assert_eq!(from_wire(&[]), Ok(None));
    }

    #[test]
    fn nonsense_is_refused_and_named() {
        let refusal = |said: &[v1::ClientWay]| from_wire(said).unwrap_err().to_string();
        assert_eq!(refusal(&[way("eu", 0, None)]), "field ways[0].rtt_us: is zero");
        let said = [way("", 1, None), way("eu", 1, Some(0))];
        assert_eq!(refusal(&said), "field ways[1].bytes_per_s: is zero");
        let said = [way("eu", 1, None), way("eu", 2, None)];
        assert_eq!(refusal(&said), "field ways[1].region: is there twice");
        assert_eq!(refusal(&[way("", 1, None), way("", 2, None)]), "field ways[1].region: is there twice");
        assert!(refusal(&[way("No Region", 1, None)]).starts_with("field ways[0].region:"));
        let many: Vec<_> = (0..=REGIONS_MAX).map(|number| way(&format!("r{number}"), 1, None)).collect();
        assert!(refusal(&many).starts_with("field ways: "), "{}", refusal(&many));
        assert!(from_wire(&many[1..]).is_ok());
        let more: Vec<_> = (0..REGIONS_MAX + 9).map(|number| way(&format!("r{number}"), 1, None)).collect();
        assert!(refusal(&more).contains("73 ways"), "{}", refusal(&more));
    }
}
