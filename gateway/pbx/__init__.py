"""Everything that speaks to Asterisk: FastAGI, AMI, the journal and the generated configuration."""
