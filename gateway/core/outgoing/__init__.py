"""What leaves the house for each outside service: pure mappings of a call to requests, one module per service.

    adapters   what the post sees of all of them
    talks      requests, answers, and what an answer means
    told       the call as adapters read it; who the visitor was
    dispositions   our outcomes in the words of each service
    hashing    personal data as ad platforms want it

    ga4 · metrica · google_ads · meta            analytics and ad platforms
    crm; bitrix24 · amocrm · hubspot · salesforce · pipedrive

A service's module yields requests and is sent the answers; it does no I/O and is told the time. `gateway.senders` does
the rest. The recipe for the next service is in docs/integrations.md.
"""
