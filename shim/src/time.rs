//! Times, as protobuf and as text.

use std::time::{SystemTime, UNIX_EPOCH};

use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{MessageField, SpecialFields};

/// The time as protobuf has it.
pub fn timestamp(time: SystemTime) -> MessageField<Timestamp> {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    MessageField::some(Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        special_fields: SpecialFields::new(),
    })
}

/// Gives the time now, in UTC, with nanoseconds.
pub fn now_rfc3339() -> String {
    gabion_core::time::rfc3339_nanos(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}
