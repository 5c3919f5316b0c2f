-- The types of messages are checked by one constraint more.
ALTER TABLE outbound_messages VALIDATE CONSTRAINT outbound_messages_type_known;
