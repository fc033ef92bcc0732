"""Networks for tests: raw MQTT, proxies, network namespaces, free ports."""
