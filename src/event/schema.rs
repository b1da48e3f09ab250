//! The JSON Schema of an event (`authtap schema event`).
