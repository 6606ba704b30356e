//! Who gets a handler: only nodes that the gate admitted. The defence behind [`super::admission`].
//!
//! The transport lets nobody else through; should it ever, the swarm still builds nothing for a stranger. It
//! refuses to judge certificates itself.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
        ToSwarm,
        behaviour::{DialFailure, ListenFailure},
    },
};

use super::{
    admission::{Gate, Refusal},
    streams::{Handler, Link},
    transport,
};

/// Builds handlers for members, and for nobody else.
#[derive(Debug)]
pub(super) struct Behaviour {
    gate: Arc<Gate>,
    handlers_built: Arc<AtomicU64>,
    /// The links of connections that are about to be reported as established.
    links: BTreeMap<ConnectionId, Link>,
}

impl Behaviour {
    pub(super) fn new(gate: Arc<Gate>, handlers_built: Arc<AtomicU64>) -> Self {
        Self { gate, handlers_built, links: BTreeMap::new() }
    }

    /// The link of a connection that was just established.
    pub(super) fn take_link(&mut self, connection: ConnectionId) -> Option<Link> {
        self.links.remove(&connection)
    }

    fn handler(&mut self, connection: ConnectionId, peer: &PeerId) -> Result<Handler, ConnectionDenied> {
        let key = transport::public_key(peer).ok_or_else(|| ConnectionDenied::new(Refusal::OtherKindOfKey))?;
        self.gate.admitted(&key).map_err(ConnectionDenied::new)?;
        self.handlers_built.fetch_add(1, Ordering::Relaxed);
        let (handler, link) = Handler::new();
        self.links.insert(connection, link);
        Ok(handler)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(connection, &peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _address: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.handler(connection, &peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        // A connection that another behaviour denied after a handler was built for it.
        if let FromSwarm::DialFailure(DialFailure { connection_id, .. })
        | FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) = event
        {
            self.links.remove(&connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, _peer: PeerId, _connection: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::network::test_world::{World, key};

    #[test]
    fn a_stranger_that_slips_through_the_transport_gets_no_handler() {
        let world = World::new();
        let built = Arc::new(AtomicU64::new(0));
        let mut behaviour = Behaviour::new(world.gate("z-cert", 1), built.clone());
        let stranger = transport::peer_id(&key(2).public()).unwrap();
        let nowhere = Multiaddr::empty();
        let connection = ConnectionId::new_unchecked(1);
        let denied = behaviour.handle_established_inbound_connection(connection, stranger, &nowhere, &nowhere);
        assert!(denied.is_err());
        assert_eq!(built.load(Ordering::Relaxed), 0);
        assert!(behaviour.take_link(connection).is_none());
    }
}
