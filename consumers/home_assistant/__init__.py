"""Home Assistant over MQTT: devices by discovery, their states, events, and commands back."""
