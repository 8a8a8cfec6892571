//! gabion.
