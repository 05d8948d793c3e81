"""What speaks to the outside: one file per kind of receiver, all alike (`gateway.core.outgoing.adapters.Adapter`).

    outside   HTTP that does not get into the house; every sender over HTTP goes through it
    webhook   events signed by the rules of Standard Webhooks
    mqtt      events for a message broker
    mail      alarms by e-mail

A sender knows nothing of the outbox: `gateway.services.posting` hands it an event and is told how that ended.
"""
