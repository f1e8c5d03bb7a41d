//! connector-zendesk
