//! connector-mixpanel
