//! The name by which the API server's audit log and metrics know a process of Daylight.

use http::HeaderValue;
use http::header::USER_AGENT;
use kube::Config;

/// The part of Daylight that sends requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub(crate) enum Component {
    Controller,
    Auditor,
    Cli,
}

/// Makes all clients of a configuration send the component and its version as their `User-Agent`.
pub(crate) fn identify(config: &mut Config, component: Component) {
    let component: &'static str = component.into();
    let agent = format!("daylight-{component}/{}", env!("CARGO_PKG_VERSION"));
    config.headers.retain(|(name, _)| name != USER_AGENT);
    if let Ok(agent) = HeaderValue::from_str(&agent) {
        config.headers.push((USER_AGENT, agent));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_component_counts() {
        let mut config = Config::new("http://localhost".parse().unwrap());
        identify(&mut config, Component::Cli);
        identify(&mut config, Component::Controller);
        let agents: Vec<_> =
            config.headers.iter().map(|(_, value)| value.to_str().unwrap()).collect();
        assert_eq!(agents, [concat!("daylight-controller/", env!("CARGO_PKG_VERSION"))]);
    }
}
