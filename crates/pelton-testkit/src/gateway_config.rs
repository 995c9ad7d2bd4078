//! Configurations of a gateway.

use pelton::config::{Config, Sources};
use pelton::host::Host;
use pelton_gateway::{Options, configure};

/// One that is right, with two classes, two streams and a view.
pub const GOOD: &str = r#"
profile = "dev"
shards = 2

[gateway]
threads = 3
listen = ["127.0.0.1:0", "[::1]:0"]
idle_s = 60

[[class]]
name = "critical"
share = "strict"
capacity_slots = 64
overflow = "block"
payload_ring_bytes = 4_096

[[class]]
name = "bulk"
share = "weighted"
capacity_slots = 64
overflow = "drop_newest"
payload_ring_bytes = 4_096

[[stream]]
name = "orders"
class = "critical"
key = "field:user"

[[stream]]
name = "clicks"
class = "bulk"
key = "round_robin"
payload_max_bytes = 512

[[view]]
name = "per_user"
stream = "orders"
measure = "count"
by = "user"
"#;

/// A file with this text.
pub fn of_text(text: &str) -> Sources {
    Sources { file: Some(("it.toml".into(), text.into())), ..Sources::default() }
}

/// Reads what was written.
pub fn read(sources: &Sources, host: Option<&Host>) -> (Config, Options) {
    let mut options = Options::default();
    let config = configure(sources, &mut options, &Options::base, &[], &mut [], host);
    (config, options)
}

/// The options of what is right.
#[track_caller]
pub fn good(sources: &Sources) -> (Config, Options) {
    let (config, options) = read(sources, None);
    assert!(!config.problems().has_errors(), "{}\n{sources:?}", config.problems());
    (config, options)
}
